"""The command `danbao`: `app` puts it together, one module per command, `common` is what they share."""
