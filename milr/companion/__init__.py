"""What makes a book of the notebooks: run, validate, stage, figures and results."""
