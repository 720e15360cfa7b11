"""The gallery on the command line and as a server."""
