"""Published ladders of results: plan, train, compare, report."""
