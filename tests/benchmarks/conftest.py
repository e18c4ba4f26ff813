"""The peers import libraries that may not be installed; they hold no doctests."""

collect_ignore_glob = ["*_peer.py"]
