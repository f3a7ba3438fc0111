"""From dataset files to token ids and labels."""
