"""Wrong labels found by sub-centres: what lies far from what most of its class looks like."""
