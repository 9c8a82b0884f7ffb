"""What the scripts on mapping share: scenes, networks, peers, and runs in processes of their own."""
