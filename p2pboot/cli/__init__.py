"""The command line: parses, calls what does the work, turns results and errors into text and statuses."""
