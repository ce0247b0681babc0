"""All that answers HTTP."""
