"""Command line → composed config → checked Config."""
