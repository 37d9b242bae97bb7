"""What a clip is, where clips are listed, and how they are split."""
