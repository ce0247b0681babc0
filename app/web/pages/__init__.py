"""The analysts' page, made by the server: each module one page and its address, each template of the same name."""
