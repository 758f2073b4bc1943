"""What a run shows that its owner should know: plain sentences, ranked, each with evidence, place and remedy."""
