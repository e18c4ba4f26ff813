"""What only other libraries do: scores, priorities, gates, losses, expert kinds.

The layer comes here when its config asks for conventions that are not the paper's; the paper's path
imports nothing of this. Only `replay` does, for any config: it counts in `balance`.
"""
