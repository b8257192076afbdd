"""Requests of any door → where they wait, by whom they are computed, and how many bytes a client may have under way."""
