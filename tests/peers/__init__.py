"""What other routers get wrong: one test for each line of the list."""
