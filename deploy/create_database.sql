-- Run once by a superuser of a PostgreSQL 18 server (psql -f): the owner of the ledger and its database.
-- Give the owner a password afterwards with \password danbao, or use peer or certificate authentication.
create role danbao login createrole;
create database danbao owner danbao encoding 'UTF8' locale_provider builtin builtin_locale 'C.UTF-8' template template0;
\connect danbao
create extension btree_gist;
