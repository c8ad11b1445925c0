"""The only package that speaks to PostgreSQL. A SQLAlchemy Connection is the unit of work and is passed in."""
