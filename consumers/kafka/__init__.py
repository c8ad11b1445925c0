"""Apache Kafka: the only place that speaks to it. Streams, topics, and a broker of this home for tests."""
