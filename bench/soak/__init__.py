"""A long run with clients that come, wait, leave, stall and misbehave."""
