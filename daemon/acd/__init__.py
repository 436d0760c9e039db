"""The ACD's own interfaces."""
