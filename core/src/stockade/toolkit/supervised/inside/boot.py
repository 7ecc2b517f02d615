"""How interpreters are started that find the rest on descriptor 4."""

#: A warm one; its mode is the argument that follows.
BOOT = 'source=open(4,"rb").read();exec(source);run()'
#: A cold one that runs the code on descriptor 9, where a warm one is no clean start.
BOOT_COLD = 'exec(open(4,"rb").read());start()'
