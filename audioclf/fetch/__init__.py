"""From links to verified clips: one extraction a recording, only the bytes needed, nothing lost."""
