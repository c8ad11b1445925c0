"""Apache Kafka: a broker of this home for development and tests, topics kept as a file says."""
