"""The update that a step made to one parameter, told from what torch leaves behind."""
