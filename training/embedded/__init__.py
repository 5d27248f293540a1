"""How the Maya that comes along is made, stage by stage."""
