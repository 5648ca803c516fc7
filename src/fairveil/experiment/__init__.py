"""The dissertation's tables and figures as studies that anyone can run at a size that fits their machine."""
