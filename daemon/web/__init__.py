"""The HTTP listeners: health, metrics and the status page; the API of click to dial."""
