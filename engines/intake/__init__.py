"""Models that come from elsewhere: fetched or given, checked as hostile, wrapped, proved by a real inference."""
