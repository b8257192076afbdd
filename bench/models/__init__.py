"""Names -> the networks that benches and examples use, and what they cost on simulated chips."""
