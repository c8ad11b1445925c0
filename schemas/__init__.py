"""The contracts: what things look like on the wire and in files. Imports nothing of ours."""
