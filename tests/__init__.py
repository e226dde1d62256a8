"""The tests of rds_router."""
