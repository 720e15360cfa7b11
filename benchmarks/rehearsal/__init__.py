"""SYSU-MM01's whole evaluation at its real size, on images that are rendered: `make rehearse-sysu`."""
