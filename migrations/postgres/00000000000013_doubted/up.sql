-- Devices of which something is doubted are few, and every look at what waits for somebody asks for them.
CREATE INDEX devices_doubted ON devices (number) WHERE identity IS NOT NULL;
