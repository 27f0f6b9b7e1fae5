"""Look at descriptor tables from outside."""
