"""The demonstration world: name servers, real and scripted mail servers, all on loopback addresses."""
