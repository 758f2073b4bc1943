"""Rules of recurrent layers and cells."""
