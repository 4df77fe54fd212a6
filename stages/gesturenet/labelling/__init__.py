"""Make gesture data of videos: cut hands out as the runtime does, and sort them in a browser."""
