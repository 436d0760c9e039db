"""The HTTP listeners: health, metrics and the status page."""
