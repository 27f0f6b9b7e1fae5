"""Reports: data in, document out."""
