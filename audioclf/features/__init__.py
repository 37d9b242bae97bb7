"""From a clip's waveform to a fixed-size array, kept on disk."""
