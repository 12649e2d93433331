"""The only aiohttp handlers."""
