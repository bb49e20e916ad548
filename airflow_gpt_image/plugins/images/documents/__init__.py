"""Make the documents that the Images tab's pages show."""
