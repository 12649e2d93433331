"""The commands of `reelready`, imported one by one by `gateway.cli`."""
