"""The cloud on a laptop: what `reelready local` starts."""
