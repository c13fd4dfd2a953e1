"""SyncNet (Chung and Zisserman 2016) as the field measures lip sync with it: LSE-C and LSE-D."""
