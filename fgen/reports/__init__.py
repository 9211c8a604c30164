"""What people look at: pictures, pages, and what a file or folder holds."""
