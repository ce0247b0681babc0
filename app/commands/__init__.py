"""The commands of `plum-outcomes`: a module each, or a few that belong together, loaded when they are called."""
