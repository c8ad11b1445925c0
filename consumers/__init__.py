"""The stream shell: where records come from, and the one loop that books them."""
