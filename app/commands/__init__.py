"""The commands of `plum-outcomes`. Each module has one command or a few related ones, and is loaded when one runs."""
