"""Config → image table → cached pixels → batches."""
