"""RoutingSession on real databases: which server really ran the SQL."""
