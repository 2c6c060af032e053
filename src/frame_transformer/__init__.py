"""Take the voice out of a song, or the song away from the voice."""
