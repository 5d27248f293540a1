"""The desktop app: a page on this computer that asks Maya about pictures."""
