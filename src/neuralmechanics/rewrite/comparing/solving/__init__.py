"""The group element that brings one network to another: found, refined, made unique."""
